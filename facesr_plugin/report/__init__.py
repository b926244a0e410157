"""What looks at results: experiments, curves, pictures, the page."""
