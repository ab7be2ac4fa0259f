"""A service account's key for the tests of its sign-in."""

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node2dm_tw.providers.oauth2 import ServiceAccountKey


def pem(key, encryption=None):
    form = (Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return key.private_bytes(*form).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CONTENT = {
    "type": "service_account",
    "project_id": "shop",
    "private_key_id": "0a1b2c",
    "private_key": pem(RSA),
    "client_email": "robot@shop.example",
    "client_id": "1",
    "token_uri": "https://oauth2.example/token",
}
KEY = ServiceAccountKey(
    "robot@shop.example", pem(RSA), "0a1b2c", "https://oauth2.example/token", "shop"
)
