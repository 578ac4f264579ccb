"""Shipped settings, Prometheus and Grafana files: data only."""
