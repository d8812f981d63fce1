"""The search: proposes candidates, has them judged, keeps the study. Read `driver` first.

driver      the loop: keeps the workers busy, tells what became of them
claims      what to run next, and whose it is
ending      where it stands, and why it ends
proposals   the next setting of the knobs, drawn on a private view of the study
samplers    how the view is sampled, by name; `tpe` is one
evolve      a sampler of our own, for thousands of candidates
promise     of many draws, the one most worth its training
surrogate   what training would tell of a network, forecast from others
repair      a draw over a limit, changed until it keeps it
earlier     what other studies have found out already
relatives   whose weights a candidate begins with, where it inherits any
verdict     limits and outcomes: what a trial is told
ledger      the study in its storage, open to several drivers at once
journal     the storage's file: appends are whole or absent
leases      who runs a trial, and whether that driver still lives
room        what is held back of the disk, and what checkpoints take
judging     the function that runs in a worker
engines     where it runs: a `concurrent.futures.Executor` of the registry WORKERS
interruption  where Ctrl-C may strike

This file imports nothing: a worker that loads `judging` must not wait for Optuna.
"""
