"""What every test may ask for."""

pytest_plugins = ["tests.fixtures.api_process", "tests.fixtures.database", "tests.fixtures.sqs"]
