"""The five kinds that people and the operator share, their names, labels, conditions and reasons. No I/O."""
