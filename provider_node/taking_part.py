"""A site's part in one run: join it, agree on its plan, set up, feed, end."""

from threadpoolctl import threadpool_limits

from mple.data import open_source
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import warn
from mple.node.session import open_node
from mple.node.stop import Stop
from mple.pki import Vault
from mple.plan import SiteSettings
from mple.plan.fit import check_dataset
from mple.rpc import Role
from mple.v1 import coordinator_pb2
from provider_node.agreement import agree, join
from provider_node.fetching import fetched
from provider_node.keys.run_keys import RunKeys
from provider_node.keys.setup import SiteSetup
from provider_node.site import Site
from provider_node.site_run import SiteRun


def take_part(settings: SiteSettings, stop: Stop) -> None:
    """Take part in one run until it has ended.

    Raises ValueError: configuration, certificates, state folder, vault or data can't be used; MpleError: the run
    failed, or a party refused this site; UnreachableError: a party could not be reached; StoppedError: the node was
    told to end.
    """
    threadpool_limits(settings.threads)
    with open_node(settings, Role.SITE, "run", stop) as node:
        vault = Vault.of(settings.vault, settings.vault_passphrase_file)
        dataset, keys = open_source(fetched(settings.data, stop), settings.state), RunKeys(settings.state)
        check_dataset(dataset)
        for note in dataset.notes:
            warn("data", note)
        _in_run(Site(node=node, settings=settings, vault=vault, dataset=dataset, keys=keys))


def _in_run(site: Site) -> None:
    node, settings = site.node, site.settings
    coordinator = node.find(settings.coordinator, Role.COORDINATOR, settings.idle_timeout_s)
    with node.channel(coordinator) as channel:
        client = CoordinatorClient(channel, coordinator.retry)
        join(site, client)
        with node.follow(client) as events:
            plan = agree(site, events.plan_made())
            events.enter(coordinator_pb2.PHASE_SETUP)
            SiteSetup(site=site, coordinator=coordinator.party, client=client, events=events, plan=plan).run()
            run = SiteRun(site, client, plan)
            events.enter(coordinator_pb2.PHASE_TRAINING, lambda event: run.take(event, events))
            run.take_part(events)
            run.end(events.sequence)
