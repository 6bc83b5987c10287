"""White-box tests: of parts that users do not see, or may not touch."""
