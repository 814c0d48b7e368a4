"""One drill a symptom: inject it, read the words, cure it by the commands of the guide, with the real programs."""
