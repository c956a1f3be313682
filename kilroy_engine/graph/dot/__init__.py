"""DOT text to a graph, with the place of everything that it holds. The only room that knows lark."""
