"""`python -m fashion_cnn`: the command line."""

from fashion_cnn.cli import main

main()
