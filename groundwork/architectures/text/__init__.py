"""Language models: tokens [B, L] → logits of the tokens that follow, [B, L, C]."""
