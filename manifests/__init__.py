"""The ground of Noria: what must move and what has moved. Data and pure functions."""
