"""Experiment 2: CNN or Transformer, at equal parameters, recipe and tuning budget?"""
