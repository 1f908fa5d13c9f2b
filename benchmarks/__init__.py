"""Speed and memory: ours against the peers, in one process, interleaved."""
