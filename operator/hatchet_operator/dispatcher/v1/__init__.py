"""What Hatchet's clients from 1.0 on call in addition to the services of v0.

services     registrations, and the details of a run
translation  turns a registration of v1 into one of v0, and a run into its details
"""
