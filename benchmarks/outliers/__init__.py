"""Outliers: does the promise hold (validity), and what does it catch (power)?"""
