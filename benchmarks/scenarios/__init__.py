"""The scenarios, one idea to a module; `scenario` says what one is, `delivery` is the measured run most of them share.

`catalogue` lists them in the order in which they run.
"""
