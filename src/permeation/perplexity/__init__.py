"""Perplexity of a model on a text, and of a changed model beside the untouched one."""
