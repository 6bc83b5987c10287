"""White-box tests: of what users do not see, or may not touch."""
