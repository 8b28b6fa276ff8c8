pytest_plugins = ["hatchet_sdk.testing.plugin"]
