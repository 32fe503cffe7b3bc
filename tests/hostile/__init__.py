"""Everything that Noria reads may be damaged, cut, or written by someone else.

Then there is a clear error or a correct result, never a hang, a traceback or a half-written job.
"""
