"""Gates: what must hold before a run goes on."""
