"""Experiment 1: how good are features learned without labels?"""
