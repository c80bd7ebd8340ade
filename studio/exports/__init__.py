"""Taking batches, data sets, collections and runs out of the workspace, in forms that other tools read."""
