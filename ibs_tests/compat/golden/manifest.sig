{
 "format": 1,
 "signer": "b1b01381ffd4b8a725eb0a4a4036fdff3f9519363f7654aa0228f10200238d5b",
 "by": "client",
 "signature": "ioSIi8eJxeZZopFOIOBc4fJOfnrjqmbqEW1JxmZNG9fVR0XpMx4xUbagfvqjtBC37/7c4JbDtEBuIMDhU1DjAg=="
}