from hypothesis import settings

# The first example of a kernel test may compile, and the machines are shared: no deadlines.
settings.register_profile("tfa-perf", deadline=None)
settings.load_profile("tfa-perf")
