"""The key that pools' tokens are signed with: configured, or kept in a Secret that is created at the first start."""

import base64
import secrets

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.cluster.ownership import is_owned_by, owners_with
from hatchet_operator.cluster.upkeep import keep_as_wanted
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings

KEY_SECRET = "hatchet-operator-tokens"  # noqa: S105  # the name of an object


async def find_token_key(api: Api, settings: Settings) -> str:
    """Return the key that pools' tokens are signed with: a setting, or kept in a Secret created at the first start."""
    if settings.token_key:
        return settings.token_key
    owner = settings.owner

    def wanted(there: Json | None) -> Json | None:
        if there is None:
            return {
                "apiVersion": SECRETS.api_version,
                "kind": SECRETS.kind,
                "metadata": {
                    "name": KEY_SECRET,
                    "namespace": settings.operator_namespace,
                    "labels": {labels.MANAGED_BY: labels.MANAGER},
                    "ownerReferences": owners_with({}, owner),
                },
                "stringData": {"key": secrets.token_hex(32)},
            }
        if is_owned_by(owner, there):
            return None
        return {**there, "metadata": {**there["metadata"], "ownerReferences": owners_with(there, owner)}}

    ref = ObjectRef(settings.operator_namespace, KEY_SECRET)
    secret, _ = await keep_as_wanted(api, SECRETS, ref, wanted)
    return _decode(secret)


def _decode(secret: Json) -> str:
    try:
        return base64.b64decode(secret["data"]["key"]).decode()
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f'Secret "{KEY_SECRET}" has no readable "key"; delete it to have a new one made'
        ) from error
