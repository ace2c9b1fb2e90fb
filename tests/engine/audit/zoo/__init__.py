"""A zoo of planted faults: ways to lose a gradient, each with healthy twins that look alike."""
