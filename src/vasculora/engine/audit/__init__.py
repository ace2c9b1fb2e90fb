"""The gradient audit: what should learn, and what does."""
