"""The command that compares masks of finished runs: `python -m lottery.overlap RUN [RUN…]`.

Read `measured.read` first; `lottery.analysis.overlap` says what is measured.
"""
