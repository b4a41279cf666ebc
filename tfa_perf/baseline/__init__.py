"""The code paths of the performance report as it writes them: the "before" of every figure.

Nothing here is slowed down or sped up. Where the report shows code, the code is kept; where it
only describes (the model's class, the optimizer), the plain PyTorch form is used.
"""
