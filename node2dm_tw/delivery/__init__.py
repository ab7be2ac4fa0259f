"""How pushes leave: one lane for each route."""
