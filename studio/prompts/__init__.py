"""Help with writing prompts: books of them, choices, the tokens they take, and suggestions with their sources."""
