"""Hatchet's services without a version in their names: workers, attempts, workflows, runs.

services     a few lines per call: translate, ask the engine, translate back
translation  between messages and our own types, both ways
"""
