"""Scripts of the project itself: generators and checks."""
