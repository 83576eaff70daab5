"""Test scenarios and their executions: what people follow."""
