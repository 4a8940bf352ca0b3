"""Measured times of LSTM kernels. Written by :func:`algoprog.kernels.lstm_table.write`; not measured yet, so it is empty."""

ROWS: tuple[tuple[str, str, int, int, str, float, float], ...] = ()
