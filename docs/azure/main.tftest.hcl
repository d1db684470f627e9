# terraform test: what would be made, without Azure (needs Terraform 1.7, and no subscription).

mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = {
      tenant_id = "00000000-0000-0000-0000-000000000001"
      object_id = "00000000-0000-0000-0000-00000000000a"
    }
  }
}

variables {
  name    = "teamcache"
  admins  = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"]
  writers = ["00000000-0000-0000-0000-00000000000c"]
}

run "open_to_all_addresses_by_default_but_to_identities_alone" {
  command = plan

  assert {
    condition     = !azurerm_storage_account.cache.shared_access_key_enabled && !azurerm_storage_account.cache.allow_nested_items_to_be_public
    error_message = "The container is for identities alone."
  }
  assert {
    condition     = azurerm_managed_redis.cache.public_network_access == "Enabled" && length(azurerm_private_endpoint.cache) == 0
    error_message = "Without a subnet there is no private way in, so there has to be a public one."
  }
  assert {
    condition     = keys(azurerm_role_assignment.makes_keys) == ["00000000-0000-0000-0000-00000000000b"]
    error_message = "Who applies this has the role for keys already: two equal assignments are refused by Azure."
  }
  assert {
    condition     = length(azurerm_role_assignment.writes_blobs) == 3 && length(azurerm_role_assignment.unwraps) == 1
    error_message = "Writers and admins write; readers and writers unwrap."
  }
}

run "named_addresses_alone" {
  command = plan
  variables {
    allowed_ips = ["203.0.113.0/24"]
  }

  assert {
    condition     = one(azurerm_storage_account.cache.network_rules).default_action == "Deny" && one(azurerm_key_vault.cache.network_acls).default_action == "Deny"
    error_message = "Who is not on the list stays outside."
  }
}

run "one_network_alone" {
  command = plan
  variables {
    subnet_id    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/net/subnets/cache"
    dns_zone_ids = { blob = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net" }
  }

  assert {
    condition     = toset(keys(azurerm_private_endpoint.cache)) == toset(["blob", "redis", "vault"])
    error_message = "Each resource has a way in from the subnet."
  }
  assert {
    condition     = azurerm_managed_redis.cache.public_network_access == "Disabled" && !azurerm_storage_account.cache.public_network_access_enabled && !azurerm_key_vault.cache.public_network_access_enabled
    error_message = "Nothing is reached from outside of the network."
  }
  assert {
    condition     = length(azurerm_private_endpoint.cache["blob"].private_dns_zone_group) == 1 && length(azurerm_private_endpoint.cache["redis"].private_dns_zone_group) == 0
    error_message = "A zone belongs to the endpoint of its name."
  }
}

run "a_name_that_azure_would_refuse" {
  command = plan
  variables {
    name = "Team-Cache"
  }
  expect_failures = [var.name]
}
