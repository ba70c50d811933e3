"""Access tokens of OpenID Connect issuers: JSON Web Tokens, checked by the keys that the issuer publishes."""
