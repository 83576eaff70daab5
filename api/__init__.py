"""The HTTP service: what people and programs do with scenarios, subscriptions and their inbox."""
