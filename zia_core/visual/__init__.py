"""Image-conditioned prompts: what turns an image's features into vectors on the prompts."""
