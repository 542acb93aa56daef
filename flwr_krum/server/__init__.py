"""Strategies for Flower's `aggregate_fit` API."""
