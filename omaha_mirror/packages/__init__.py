"""How a package's name becomes proven bytes: the library, its source upstream, the prover, prefetch and warm-up."""
