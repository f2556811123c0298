"""Backbone, neck and the network they form with a head."""
