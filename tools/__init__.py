"""Scripts of the project itself: what generates, and what checks."""
