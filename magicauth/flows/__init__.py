"""Rules without a request: each reads like the policy it implements."""
