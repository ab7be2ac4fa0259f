"""The libcurl client: the contract, and what only it does."""

from http_contract import ContractTests
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient


class CurlContractTests(ContractTests, TestCase):
    """The contract over real sockets."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)
