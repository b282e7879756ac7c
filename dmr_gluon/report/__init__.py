"""Logs of runs, and pictures made from them."""
