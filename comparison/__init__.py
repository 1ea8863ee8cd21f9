"""What the scheme is measured against: every way to an inference on one network, and other training systems.

`comparison.compare` runs the rows (plain, morphed, GAZELLE's and MiniONN's protocols), each as two processes, and
gives a `Comparison`; `tables` and `page` show it. `comparison.elsewhere` runs CHEETAH and Flower in environments of
their own. Nothing of the product imports this package; `mple compare` finds it through an entry point.
"""
