"""The pages, one subject a file: each reads what it shows, in bounded calls."""
