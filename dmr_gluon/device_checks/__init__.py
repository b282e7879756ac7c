"""``dmr verify --gpus 0,1``: what cannot be proven without a user's GPUs, proven on them.

Every section runs in a process of its own (:mod:`.section`), so that a crash or a hang of one
fails that one alone. :mod:`.runner` starts them, :mod:`.checks` says what a check is.
"""
