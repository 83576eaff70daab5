"""The history of the database's shape; `shared.schema` applies it."""
