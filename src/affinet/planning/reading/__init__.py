"""Read rules in regular forms: from the terms of their expressions, and from repeated patterns among equations."""
