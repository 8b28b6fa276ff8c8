"""Builds what a release consists of: ``make release`` writes it to dist/.

files       what each file is: checksums, a statement of where they come from, a manifest for krew (pure)
__main__    builds wheels, charts, the plugin, images and the list of what is in them, with the tools made for each
"""
