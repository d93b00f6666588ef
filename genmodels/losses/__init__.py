"""Losses and penalties as pure functions on arrays; they know no network and no optimizer."""
